import MagicalaneCore

/// How a group chooses: samples in, decisions out; no I/O, no clock.
protocol Choice: Sendable {
  /// Takes what was seen since the sample before.
  ///
  /// - Returns: what is worth a line in the log: a change, or why there is none.
  mutating func take(_ sample: PathSample) -> Decision?

  /// The members in the order in which a new session tries them, by index; the first is the chosen one.
  var order: [Int] { get }

  /// What is known of each member, in the order of the config; what no sample tells is left as it begins.
  ///
  /// - Parameter time: now, in seconds since 1970.
  func statuses(at time: Double) -> [PathStatus]
}

extension AdaptivePolicy: Choice {
  var order: [Int] { (chosen ?? 0) == 0 ? [0, 1] : [1, 0] }
}
