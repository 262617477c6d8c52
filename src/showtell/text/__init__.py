"""Text: COCO's tokeniser, and vocabularies of words and of word pieces."""
