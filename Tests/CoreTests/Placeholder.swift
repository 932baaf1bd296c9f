import Testing
@testable import MagicalaneCore
