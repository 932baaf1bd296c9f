import Testing
@testable import MagicalaneFrontends
