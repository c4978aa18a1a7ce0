//! Ready-to-use configurations that are part of the program.

/// The configuration of a popular service.
pub struct Recipe {
    pub name: &'static str,
    pub about: &'static str,
    pub text: &'static str,
}

pub const RECIPES: &[Recipe] = &[
    Recipe {
        name: "postgres",
        about: "PostgreSQL on a private Unix socket, with its data in the project",
        text: include_str!("../recipes/postgres.toml"),
    },
    Recipe {
        name: "postgres-tcp",
        about: "PostgreSQL on a TCP port, for clients that read DATABASE_URL",
        text: include_str!("../recipes/postgres-tcp.toml"),
    },
    Recipe {
        name: "mariadb",
        about: "MariaDB on a Unix socket, with its data in the project",
        text: include_str!("../recipes/mariadb.toml"),
    },
    Recipe {
        name: "redis",
        about: "Redis without files on disk",
        text: include_str!("../recipes/redis.toml"),
    },
    Recipe {
        name: "memcached",
        about: "memcached on a free port",
        text: include_str!("../recipes/memcached.toml"),
    },
    Recipe {
        name: "nats",
        about: "NATS without files on disk",
        text: include_str!("../recipes/nats.toml"),
    },
    Recipe {
        name: "nginx",
        about: "nginx, serving the files of the project",
        text: include_str!("../recipes/nginx.toml"),
    },
    Recipe {
        name: "python-http",
        about: "Python's HTTP server, serving the files of the project",
        text: include_str!("../recipes/python-http.toml"),
    },
    // Its socket is a Unix socket.
    #[cfg(unix)]
    Recipe {
        name: "xvfb",
        about: "A screen in memory, for programs with windows",
        text: include_str!("../recipes/xvfb.toml"),
    },
];

/// A configuration file to start with, which shows each setting.
pub const SKELETON: &str = include_str!("../recipes/skeleton.toml");

pub fn find(name: &str) -> Option<&'static Recipe> {
    RECIPES.iter().find(|recipe| recipe.name == name)
}
