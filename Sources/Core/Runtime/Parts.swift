import NIOConcurrencyHelpers
import NIOCore

/// A transport that was built from its config entry.
struct RunningTransport: Sendable {
  var id: PartID
  var settings: TransportSettings
  var transport: any Transport
  var health: TransportHealth
  /// The transports that it holds, as they were when it was built.
  var members: [String: PartID] = [:]
}

/// A frontend whose listener is bound.
struct RunningFrontend: Sendable {
  var id: PartID
  var settings: FrontendSettings
  var listener: any TransportListener
  var bound: ListenAddress
  var frontend: any Frontend
  /// What new sessions start with; replaced when the transport behind the frontend is.
  var route: NIOLockedValueBox<Route>
}

/// A frontend that was checked and waits to be bound.
struct BuiltFrontend: Sendable {
  var id: PartID
  var settings: FrontendSettings
  var listener: any TransportListener
  var frontend: any Frontend
  var route: NIOLockedValueBox<Route>
}

/// One frontend as it listens.
public struct Listening: Sendable, CustomStringConvertible {
  /// Of the frontend.
  public var name: String
  /// Of the frontend.
  public var type: String
  /// As bound: with the port that the system chose where the config says 0.
  public var address: ListenAddress
  /// The name of the transport that carries its requests.
  public var transport: String

  /// One line for people.
  public var description: String { "\(name): \(type) listens on \(address), requests go to \(transport)" }
}
