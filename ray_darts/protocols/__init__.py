"""The five protocols (space, method, operation, data set, task) and the registry that finds them by name.

Plain Python and pydantic: importing a protocol imports neither torch nor Ray. Import from the modules.
"""
