"""What a study shows, in numbers and names, without words of any language; needs no torch."""
