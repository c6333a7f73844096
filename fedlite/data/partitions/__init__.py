"""Partitions: ``partition.name=NAME`` is the ``PARTITION`` of the module NAME here."""
