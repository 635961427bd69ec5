"""Models: what they are made of, the one transformer class, text encoders, codecs, and how weights find their names."""
