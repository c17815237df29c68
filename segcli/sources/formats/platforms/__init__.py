"""Exports of annotation platforms that have a json for each image."""
