"""A live server for speech language models, and the page that it shows."""
