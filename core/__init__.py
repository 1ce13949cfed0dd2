"""What every other room stands on: cells, names, checks of what users write. Imports none of them."""
