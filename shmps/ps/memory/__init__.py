"""Views over the memory that the nodes share: parameters, mailboxes, and the status of the nodes."""
