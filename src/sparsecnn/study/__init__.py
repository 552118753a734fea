"""What is to be made, and whether it is: settings, files, origins; needs no torch."""
