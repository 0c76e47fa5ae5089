"""The small model that needs neither a key nor a GPU: its weights, its server, its process."""
