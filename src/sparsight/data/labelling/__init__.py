"""Photos for people to label: what is chosen becomes tasks in a labelling project."""
