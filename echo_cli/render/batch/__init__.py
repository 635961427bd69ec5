"""Many storyboards: which, whose share, under which names, and two engines that make them."""
