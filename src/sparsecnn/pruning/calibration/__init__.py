"""What the calibration images say of each layer: the moments of its inputs and outputs."""
