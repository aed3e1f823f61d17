package e2e;

import SERVLET.*;
import SERVLET.http.HttpServletResponse;
import java.io.IOException;

/** A filter of the Spark UI that lets nobody in. */
public class Deny implements Filter {
  @Override
  public void init(FilterConfig config) {}

  @Override
  public void doFilter(ServletRequest request, ServletResponse response, FilterChain chain) throws IOException {
    ((HttpServletResponse) response).sendError(401);
  }

  @Override
  public void destroy() {}
}
