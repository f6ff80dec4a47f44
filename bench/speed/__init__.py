"""How fast training, requests and loading are, and what protection against crashes costs."""
