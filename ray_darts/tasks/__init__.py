"""Tasks, which runs execute, and the metrics that a task reports. Knows no store and no Ray.

Import from the modules.
"""
