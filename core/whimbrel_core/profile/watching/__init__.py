"""What changes over time: detectors of streams and series, alarms, rates."""
