"""Other tools' prompt files and timelines, read into storyboards and written from them. No torch."""
