"""Formats: ``compress.formats=[NAME]`` is the ``FORMAT`` of the module NAME here.

A format that is served here too has a runtime of its name in ``fedlite/serve/runtimes``.
"""
