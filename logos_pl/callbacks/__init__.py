"""Lightning callbacks: what a run does beside computing."""
