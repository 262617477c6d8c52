"""From pictures to captions: captioners and their backends, checkpoints, streams of pictures."""
