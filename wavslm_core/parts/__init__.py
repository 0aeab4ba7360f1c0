"""What parts are: configs, facts, interfaces, plugins, and the blocks that parts are written with."""
