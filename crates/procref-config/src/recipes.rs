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
        name: "rabbitmq",
        about: "RabbitMQ, with its data in the project",
        text: include_str!("../recipes/rabbitmq.toml"),
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
    Recipe {
        name: "vite",
        about: "The development server of Vite",
        text: include_str!("../recipes/vite.toml"),
    },
    Recipe {
        name: "next",
        about: "The development server of Next.js",
        text: include_str!("../recipes/next.toml"),
    },
    Recipe {
        name: "moto",
        about: "Moto, which imitates S3 and other services of AWS",
        text: include_str!("../recipes/moto.toml"),
    },
    Recipe {
        name: "maildev",
        about: "MailDev, which shows mails and delivers none",
        text: include_str!("../recipes/maildev.toml"),
    },
    Recipe {
        name: "ollama",
        about: "Ollama, shared by all projects of the user",
        text: include_str!("../recipes/ollama.toml"),
    },
    // Its script needs the signals of Unix.
    #[cfg(unix)]
    Recipe {
        name: "docker",
        about: "A container of Docker, which stops with its last client",
        text: include_str!("../recipes/docker.toml"),
    },
    // Its script needs the signals of Unix.
    #[cfg(unix)]
    Recipe {
        name: "podman",
        about: "A container of Podman, which stops with its last client",
        text: include_str!("../recipes/podman.toml"),
    },
    Recipe {
        name: "chromedriver",
        about: "ChromeDriver, for browser tests",
        text: include_str!("../recipes/chromedriver.toml"),
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
