"""How messages reach clients: in this process, in worker processes, or on Flower's own runtime."""
