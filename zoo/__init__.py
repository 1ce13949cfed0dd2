"""Model cards, the pocket checkpoints and the program that trains them."""
