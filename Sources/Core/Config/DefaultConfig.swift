extension Configuration {
  /// What runs where there is no config file: both frontends on loopback, straight to their targets.
  public static let defaultText = """
    admin: {listen: "127.0.0.1:9090"}
    frontends:
      - name: socks
        type: socks5
        listen: tcp://127.0.0.1:1080
      - name: web
        type: http
        listen: tcp://127.0.0.1:8080

    """

  /// What messages call the default config, which is in no file.
  public static let defaultName = "<default>"
}
