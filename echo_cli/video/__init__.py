"""Pictures to files that other programs play: MP4, image sequences, subtitles, contact sheets. No torch."""
