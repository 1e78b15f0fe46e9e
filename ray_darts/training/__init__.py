"""The training task: one loop for every derived network and world size. Knows no Ray and no store.

Import from the modules.
"""
