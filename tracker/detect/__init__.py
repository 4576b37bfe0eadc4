"""Find instances: build a model by name, and turn frames into detections fast."""
