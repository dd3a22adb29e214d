"""Complete runs: recipes, the run folder, its report, and the comparison of several runs."""
