"""False alarms and detection delay of the drift detector, compared with other detectors."""
