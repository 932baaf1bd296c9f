import MagicalaneCommand

await Magicalane.main(.standard)
