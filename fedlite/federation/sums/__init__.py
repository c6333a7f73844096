"""Sum protocols: the ``PROTOCOL`` of the module NAME here is the one that clients are told."""
