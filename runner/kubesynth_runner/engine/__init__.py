"""The engine: streams records through stages with every slot busy, and loses nothing."""
