"""Complete runs: recipes, the folder a run leaves, its report, and runs side by side."""
