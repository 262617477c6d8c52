"""Captioning many pictures: folders, lists, archives and object stores, stopped and resumed."""
