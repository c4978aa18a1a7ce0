//! Ready-to-use configurations that are part of the program.

/// The configuration of a popular service.
pub(crate) struct Recipe {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) text: &'static str,
}

pub(crate) const RECIPES: &[Recipe] = &[
    Recipe {
        name: "postgres",
        about: "PostgreSQL on a private Unix socket, with its data in the project",
        text: include_str!("../recipes/postgres.toml"),
    },
    Recipe {
        name: "redis",
        about: "Redis without files on disk",
        text: include_str!("../recipes/redis.toml"),
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
];

/// A configuration file to start with, which shows each setting.
pub(crate) const SKELETON: &str = include_str!("../recipes/skeleton.toml");

pub(crate) fn find(name: &str) -> Option<&'static Recipe> {
    RECIPES.iter().find(|recipe| recipe.name == name)
}
