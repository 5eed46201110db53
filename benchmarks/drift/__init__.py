"""False alerts and detection delay of the drift detector, beside other detectors."""
