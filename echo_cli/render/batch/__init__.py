"""Many storyboards: which ones, which share of them, under which names, and two engines that render them."""
