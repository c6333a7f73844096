"""Runtimes: the ``RUNTIME`` of the module NAME here serves files of the format NAME.

Each is imported when a file of its kind is opened, so that a process which measures one holds no
other.
"""
