"""What the parts of one account's session share: who it is, its link, its events, and the node beneath."""
