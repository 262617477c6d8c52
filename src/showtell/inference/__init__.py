"""From pictures to captions: the captioner, its checkpoint, streams of pictures."""
