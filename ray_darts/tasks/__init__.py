"""What a run executes: tasks, and the facts that a task reports. Knows no store and no Ray.

Import from the modules.
"""
