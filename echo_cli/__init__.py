"""echo: long video from a storyboard of timed prompts, with a memory of scenes."""

__version__ = "0.1.0"
