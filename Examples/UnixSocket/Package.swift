// swift-tools-version:6.1
import PackageDescription

let package = Package(
  name: "UnixSocket",
  dependencies: [
    .package(name: "magicalane", path: "../.."),
    .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
  ],
  targets: [
    .target(
      name: "UnixSocketTransport",
      dependencies: [
        .product(name: "MagicalaneCore", package: "magicalane"),
        .product(name: "NIOPosix", package: "swift-nio"),
      ]
    ),
    .executableTarget(
      name: "magicalane-unix",
      dependencies: [
        "UnixSocketTransport",
        .product(name: "MagicalaneCommand", package: "magicalane"),
      ]
    ),
    .testTarget(
      name: "UnixSocketTransportTests",
      dependencies: [
        "UnixSocketTransport",
        .product(name: "MagicalaneFrontends", package: "magicalane"),
        .product(name: "MagicalaneTransports", package: "magicalane"),
      ]
    ),
  ],
  swiftLanguageModes: [.v6]
)
