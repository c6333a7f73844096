"""Data sources: ``dataset.source=NAME`` is the function ``read`` of the module NAME here."""
