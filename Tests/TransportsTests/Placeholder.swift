import Testing

@testable import MagicalaneTransports
