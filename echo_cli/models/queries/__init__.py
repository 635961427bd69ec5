"""Memory queries: the network, and its file beside a transformer."""
