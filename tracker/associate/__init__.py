"""Link detections across frames: motion, costs, and the life of a track."""
