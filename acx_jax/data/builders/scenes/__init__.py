"""Procedural traffic scenes: junctions, road users, events, and their pictures. Metres, seconds, radians; z is up."""
