//! A real web server.

use std::fs;

use anyhow::{Context, Result};

use super::{Host, Running, find};

/// Starts nginx in a host: one process, on port 80 of all addresses, which answers every request with the same text.
pub fn start_nginx(host: &Host, answer: &str) -> Result<Running> {
    let nginx = find("nginx").context("nginx: not found (apt install nginx-light)")?;
    let directory = host.directory();
    let file = directory.join("nginx.conf");
    let place = directory.display();
    let text = format!(
        r#"daemon off;
master_process off;
pid "{place}/nginx.pid";
error_log "{place}/error.log";
events {{ }}
http {{
    access_log off;
    client_body_temp_path "{place}/body";
    proxy_temp_path "{place}/proxy";
    fastcgi_temp_path "{place}/fastcgi";
    uwsgi_temp_path "{place}/uwsgi";
    scgi_temp_path "{place}/scgi";
    server {{
        listen 80;
        listen [::]:80;
        root "{place}/pages";
        location / {{ try_files /page =404; }}
    }}
}}
"#
    );
    fs::write(&file, text)?;
    fs::create_dir_all(directory.join("pages"))?;
    fs::write(directory.join("pages/page"), answer)?;
    let mut command = host.command(nginx);
    command.arg("-p").arg(&directory).arg("-c").arg(&file).arg("-e").arg(directory.join("error.log"));
    host.spawn("nginx", &mut command)
}
