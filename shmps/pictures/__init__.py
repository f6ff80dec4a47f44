"""What a training was like, to look at: a page, a timeline, a panel while it runs."""
